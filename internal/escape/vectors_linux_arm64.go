package escape

// ofMachine are those that only this machine has.
var ofMachine []Vector
