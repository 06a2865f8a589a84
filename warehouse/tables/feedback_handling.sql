CREATE TABLE IF NOT EXISTS feedback_handling_{gen}
(
    event_id UUID,
    revision UInt64,
    status   LowCardinality(String),
    assignee String,
    sorted   Bool,
    topics   Array(String),
    need     LowCardinality(String),
    priority LowCardinality(String),
    answer   String CODEC(ZSTD(1)),
    author   String,
    at       DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY event_id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
