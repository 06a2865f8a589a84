CREATE TABLE IF NOT EXISTS identity_conflicts_{gen}
(
    event_id    UUID,
    subject_id  UUID,
    subject     String,
    other_id    UUID,
    other       String,
    occurred_at DateTime64(3, 'UTC'),
    status      LowCardinality(String),
    position    UInt64,
    clock       DateTime64(3, 'UTC'),
    removed     UInt8,
    version     UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (event_id, other_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
