CREATE TABLE IF NOT EXISTS cases_{gen}
(
    customer_id        UUID,
    seq                UInt32,
    kind               LowCardinality(String),
    case_id            String,
    opened_at          Nullable(DateTime64(3, 'UTC')),
    event_id           Nullable(UUID),
    open               Bool,
    escalated          Bool,
    reopened           UInt32,
    priority           LowCardinality(String),
    response_at        Nullable(DateTime64(3, 'UTC')),
    response_took      Nullable(Int64),
    response_target    Nullable(Int64),
    response_due       Nullable(DateTime64(3, 'UTC')),
    response_verdict   LowCardinality(String),
    resolution_at      Nullable(DateTime64(3, 'UTC')),
    resolution_took    Nullable(Int64),
    resolution_target  Nullable(Int64),
    resolution_due     Nullable(DateTime64(3, 'UTC')),
    resolution_verdict LowCardinality(String),
    position           UInt64,
    clock              DateTime64(3, 'UTC'),
    removed            UInt8,
    version            UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (customer_id, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
