CREATE TABLE IF NOT EXISTS touchpoints_{gen}
(
    event_id     UUID,
    subject_id   UUID,
    subject_no   UInt64,
    subject      String,
    user_id      String,
    anonymous_id String,
    source       LowCardinality(String),
    type         LowCardinality(String),
    name         LowCardinality(String),
    meaning      LowCardinality(String),
    channel      LowCardinality(String),
    occurred_at  DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    received_at  DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    recorded_at  DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    position     UInt64 CODEC(Delta(8), ZSTD(1)),
    amount       Nullable(Decimal(18, 4)),
    currency     LowCardinality(String),
    order_id     String,
    flags        LowCardinality(String),
    properties   String CODEC(ZSTD(1)),
    context      String CODEC(ZSTD(1)),
    INDEX position_range position TYPE minmax GRANULARITY 1,
    PROJECTION daily (SELECT toDate(occurred_at), name, count() GROUP BY toDate(occurred_at), name)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (subject, occurred_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0,
    number_of_free_entries_in_pool_to_execute_mutation = 0,
    lightweight_mutation_projection_mode = 'rebuild'
