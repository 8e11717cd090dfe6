package sandbox

// For tests of the parsers alone.
var (
	Find     = find
	MemberOf = memberOf
	GroupID  = groupID

	CutEntry    = cutEntry
	AppendEntry = appendEntry
)
