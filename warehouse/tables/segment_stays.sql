CREATE TABLE IF NOT EXISTS segment_stays_{gen}
(
    segment       LowCardinality(String),
    customer_id   UUID,
    seq           UInt32,
    entered_at    DateTime64(3, 'UTC'),
    entered_cause String,
    left_at       Nullable(DateTime64(3, 'UTC')),
    left_cause    String,
    position      UInt64,
    clock         DateTime64(3, 'UTC'),
    removed       UInt8,
    version       UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (segment, customer_id, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
