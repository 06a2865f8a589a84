package bench

// The sizes of a round of figure 8, in rows.
const (
	importRows  = 100_000
	importQuick = 2_000
)
