CREATE TABLE IF NOT EXISTS feedback_{gen}
(
    event_id    UUID,
    subject_id  UUID,
    subject_no  UInt64,
    subject     String,
    occurred_at DateTime64(3, 'UTC'),
    position    UInt64,
    act         LowCardinality(String),
    kind        LowCardinality(String),
    channel     LowCardinality(String),
    source      LowCardinality(String),
    score       Nullable(Decimal(18, 4)),
    scale_low   Int32,
    scale_high  Int32,
    flag        LowCardinality(String),
    points      Nullable(Float64),
    good        Bool,
    bad         Bool,
    ease        Nullable(UInt8),
    question    String CODEC(ZSTD(1)),
    comment     String CODEC(ZSTD(1)),
    survey      String,
    campaign    String,
    case_id     String,
    product     String,
    topics      Array(String),
    need        LowCardinality(String),
    priority    LowCardinality(String)
)
ENGINE = ReplacingMergeTree(position)
ORDER BY (toYYYYMM(occurred_at), subject, event_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
