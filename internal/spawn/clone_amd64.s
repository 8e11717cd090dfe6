//go:build linux

#include "textflag.h"

// Offsets of header and entry; clone_test.go holds them against the Go structs.
#define H_ALL   88
#define H_OLD   96
#define H_FIRST 104
#define H_STOP  112
#define E_NR    0
#define E_ARG   8
#define E_RET   56
#define E_OUT   64
#define E_MASK  72
#define E_NEG   76
#define E_ZERO  80
#define E_POS   84

#define REF(bit, reg) \
	BTL  $bit, R13; \
	JCC  2(PC);     \
	MOVQ (reg), reg

// func clone(h *header) uintptr
//
// The kernel keeps every register over a system call but RAX, RCX and R11.
// The child uses no stack: it runs on its caller's, which sleeps (CLONE_VFORK).
TEXT ·clone(SB), NOSPLIT, $0-16
	MOVQ h+0(FP), R12

	// No signal handler of Go's may run in the child.
	MOVQ $14, AX            // rt_sigprocmask
	MOVQ $2, DI             // SIG_SETMASK
	LEAQ H_ALL(R12), SI
	LEAQ H_OLD(R12), DX
	MOVQ $8, R10
	SYSCALL

	MOVQ $435, AX           // clone3
	MOVQ R12, DI
	MOVQ $88, SI
	SYSCALL
	TESTQ AX, AX
	JEQ  child
	MOVQ AX, R13

	MOVQ $14, AX            // rt_sigprocmask
	MOVQ $2, DI
	LEAQ H_OLD(R12), SI
	XORQ DX, DX
	MOVQ $8, R10
	SYSCALL
	MOVQ R13, ret+8(FP)
	RET

child:
	MOVQ H_FIRST(R12), BX

loop:
	// A nested child that stopped stops whoever shares the program.
	CMPQ H_STOP(R12), $0
	JNE  quit
	MOVQ E_ARG+0(BX), DI
	MOVQ E_ARG+8(BX), SI
	MOVQ E_ARG+16(BX), DX
	MOVQ E_ARG+24(BX), R10
	MOVQ E_ARG+32(BX), R8
	MOVQ E_ARG+40(BX), R9
	MOVL E_MASK(BX), R13
	REF(0, DI)
	REF(1, SI)
	REF(2, DX)
	REF(3, R10)
	REF(4, R8)
	REF(5, R9)
	MOVQ E_NR(BX), AX
	SYSCALL
	MOVQ AX, E_RET(BX)
	MOVQ E_OUT(BX), DX
	TESTQ DX, DX
	JEQ  2(PC)
	MOVL AX, (DX)
	TESTQ AX, AX
	JLT  neg
	JEQ  zero
	MOVLQSX E_POS(BX), DX
	JMP  step
neg:
	MOVLQSX E_NEG(BX), DX
	JMP  step
zero:
	MOVLQSX E_ZERO(BX), DX
step:
	TESTQ DX, DX
	JEQ  stop
	ADDQ DX, BX
	JMP  loop
stop:
	MOVQ BX, H_STOP(R12)
quit:
	MOVQ $231, AX           // exit_group
	MOVQ $1, DI
	SYSCALL
	INT  $3
