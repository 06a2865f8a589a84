// Package ingest brings messages from the wire to the log: who may send, what a
// message says of its customer and its time, whether it is known already, and
// what becomes of one that cannot be used.
//
// A Service takes parsed calls (ingest/segmentapi parses those of the Segment
// HTTP tracking API) and answers when everything in them is durable, as a
// touchpoint or as a reject. Keys holds the write keys of the sources.
package ingest
