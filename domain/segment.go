package domain

import "strings"

const triggerSegments = "trigger."

// TriggerSegment is the name of the segment that belongs to a trigger. No segment
// that people make can have it.
func TriggerSegment(trigger string) string { return triggerSegments + trigger }

// SegmentTrigger is the trigger that a segment belongs to; false where it belongs to
// none.
func SegmentTrigger(segment string) (trigger string, ok bool) {
	if !strings.HasPrefix(segment, triggerSegments) {
		return "", false
	}
	return segment[len(triggerSegments):], true
}
