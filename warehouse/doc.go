// Package warehouse is Sojourn's side of ClickHouse: the connection, the
// migrations, the tables of a generation and their public views, the writer and
// the comparison of two generations.
//
// It speaks to any ClickHouse server through clickhouse-go, over HTTP or the
// native protocol; the embedded engine of warehouse/chdb is one such server,
// reached through its private socket. Nothing here knows the difference.
//
// A generation is one complete set of tables, touchpoints_gN, customers_gN,
// stage_transitions_gN, subjects_gN and the dictionary moved_gN. The public
// names touchpoints, customers, stage_transitions and subjects are views over
// the active generation; docs/tables.md describes their columns.
package warehouse
