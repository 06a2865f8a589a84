CREATE TABLE IF NOT EXISTS surveys_{gen}
(
    customer_id UUID,
    seq         UInt32,
    event_id    UUID,
    sent_at     DateTime64(3, 'UTC'),
    kind        LowCardinality(String),
    survey      String,
    campaign    String,
    channel     LowCardinality(String),
    source      LowCardinality(String),
    answer_id   Nullable(UUID),
    answered_at Nullable(DateTime64(3, 'UTC')),
    position    UInt64,
    clock       DateTime64(3, 'UTC'),
    removed     UInt8,
    version     UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (customer_id, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
