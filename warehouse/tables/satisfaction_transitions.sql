CREATE TABLE IF NOT EXISTS satisfaction_transitions_{gen}
(
    customer_id        UUID,
    seq                UInt32,
    from_status        LowCardinality(String),
    to_status          LowCardinality(String),
    at                 DateTime64(3, 'UTC'),
    satisfaction_index Nullable(Float64),
    reason             String,
    cause              String,
    policy_version     UInt32,
    position           UInt64,
    clock              DateTime64(3, 'UTC'),
    removed            UInt8,
    version            UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (customer_id, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
