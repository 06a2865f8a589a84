package bench

// The sizes of a round of figure 2, in events.
const (
	intakeEvents = 200_000
	intakeQuick  = 4_000
)
