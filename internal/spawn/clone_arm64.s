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
	TBZ  $bit, R11, 2(PC); \
	MOVD (reg), reg

// func clone(h *header) uintptr
//
// The kernel keeps every register over a system call but R0. The child uses
// no stack: it runs on its caller's, which sleeps (CLONE_VFORK).
TEXT ·clone(SB), NOSPLIT|NOFRAME, $0-16
	MOVD h+0(FP), R9

	// No signal handler of Go's may run in the child.
	MOVD $135, R8           // rt_sigprocmask
	MOVD $2, R0             // SIG_SETMASK
	ADD  $H_ALL, R9, R1
	ADD  $H_OLD, R9, R2
	MOVD $8, R3
	SVC

	MOVD $435, R8           // clone3
	MOVD R9, R0
	MOVD $88, R1
	SVC
	CBZ  R0, child
	MOVD R0, R10

	MOVD $135, R8           // rt_sigprocmask
	MOVD $2, R0
	ADD  $H_OLD, R9, R1
	MOVD ZR, R2
	MOVD $8, R3
	SVC
	MOVD R10, ret+8(FP)
	RET

child:
	MOVD H_FIRST(R9), R10

loop:
	// A nested child that stopped stops whoever shares the program.
	MOVD H_STOP(R9), R12
	CBNZ R12, quit
	MOVD (E_ARG+0)(R10), R0
	MOVD (E_ARG+8)(R10), R1
	MOVD (E_ARG+16)(R10), R2
	MOVD (E_ARG+24)(R10), R3
	MOVD (E_ARG+32)(R10), R4
	MOVD (E_ARG+40)(R10), R5
	MOVWU E_MASK(R10), R11
	REF(0, R0)
	REF(1, R1)
	REF(2, R2)
	REF(3, R3)
	REF(4, R4)
	REF(5, R5)
	MOVD E_NR(R10), R8
	SVC
	MOVD R0, E_RET(R10)
	MOVD E_OUT(R10), R12
	CBZ  R12, 2(PC)
	MOVW R0, (R12)
	CMP  $0, R0
	BLT  neg
	BEQ  zero
	MOVW E_POS(R10), R12
	B    step
neg:
	MOVW E_NEG(R10), R12
	B    step
zero:
	MOVW E_ZERO(R10), R12
step:
	CBZ  R12, stop
	ADD  R12, R10, R10
	B    loop
stop:
	MOVD R10, H_STOP(R9)
quit:
	MOVD $94, R8            // exit_group
	MOVD $1, R0
	SVC
	BRK
