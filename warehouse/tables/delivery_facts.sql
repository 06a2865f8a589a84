CREATE TABLE IF NOT EXISTS delivery_facts_{gen}
(
    delivery_id   UUID,
    position      UInt64,
    subject_id    UUID,
    at            DateTime64(3, 'UTC'),
    round         UInt32,
    number        UInt32,
    state         LowCardinality(String),
    trigger       LowCardinality(String),
    version       UInt32,
    action        LowCardinality(String),
    destination   LowCardinality(String),
    change        LowCardinality(String),
    programme     LowCardinality(String),
    from_state    LowCardinality(String),
    to_state      LowCardinality(String),
    change_at     DateTime64(3, 'UTC'),
    cause         String,
    arm           LowCardinality(String),
    chain         Array(String),
    send_at       DateTime64(3, 'UTC'),
    reason        LowCardinality(String),
    status        Int32,
    latency_ms    Int64,
    error         String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (delivery_id, position)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
