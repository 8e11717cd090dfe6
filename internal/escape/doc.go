// Package escape has the ways out of a sandbox that hostile programs may try: a
// static program that makes each of them, and what a sandbox answers.
//
// A way that is refused proves little by itself: the program may be wrong, or the
// kernel may refuse it to everybody. So each has a control, the same attempt where
// one guard or all are missing, that shows it to work, or to get as far as
// the code that is to be out of reach.
package escape
