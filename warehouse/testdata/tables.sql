CREATE TABLE IF NOT EXISTS touchpoints_g7
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
    lightweight_mutation_projection_mode = 'rebuild';

CREATE TABLE IF NOT EXISTS subjects_g7
(
    subject_id  UUID,
    subject_no  UInt64,
    subject     String,
    kind        LowCardinality(String),
    customer_id UUID,
    position    UInt64,
    clock       DateTime64(3, 'UTC'),
    version     UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY subject_id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS customers_g7
(
    customer_id UUID,
    user_ids    Array(String),
    stage       LowCardinality(String),
    stage_since DateTime64(3, 'UTC'),
    first_seen  DateTime64(3, 'UTC'),
    last_seen   DateTime64(3, 'UTC'),
    purchases   UInt32,
    refunds     UInt32,
    revenue     Map(String, Decimal(18, 4)),
    traits      String CODEC(ZSTD(1)),
    outlook     Array(Tuple(at DateTime64(3, 'UTC'), stage String)),
    position    UInt64,
    clock       DateTime64(3, 'UTC'),
    removed     UInt8,
    version     UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY customer_id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS stage_transitions_g7
(
    customer_id    UUID,
    seq            UInt32,
    from_stage     LowCardinality(String),
    to_stage       LowCardinality(String),
    at             DateTime64(3, 'UTC'),
    reason         String,
    cause          String,
    policy_version UInt32,
    position       UInt64,
    clock          DateTime64(3, 'UTC'),
    removed        UInt8,
    version        UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (customer_id, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS identity_conflicts_g7
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
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS accounts_g7
(
    account_id  UUID,
    group_id    String,
    stage       LowCardinality(String),
    stage_since DateTime64(3, 'UTC'),
    first_seen  DateTime64(3, 'UTC'),
    last_seen   DateTime64(3, 'UTC'),
    purchases   UInt32,
    refunds     UInt32,
    revenue     Map(String, Decimal(18, 4)),
    traits      String CODEC(ZSTD(1)),
    outlook     Array(Tuple(at DateTime64(3, 'UTC'), stage String)),
    position    UInt64,
    clock       DateTime64(3, 'UTC'),
    removed     UInt8,
    version     UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY account_id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS account_members_g7
(
    account_id UUID,
    subject_id UUID,
    subject_no UInt64,
    since      DateTime64(3, 'UTC'),
    position   UInt64,
    clock      DateTime64(3, 'UTC'),
    version    UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (account_id, subject_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE OR REPLACE DICTIONARY moved_g7
(
    subject_no  UInt64,
    customer_id UUID,
    no_change   UInt64
)
PRIMARY KEY subject_no
SOURCE(CLICKHOUSE(QUERY 'SELECT subject_no, customer_id, bitXor(subject_no, if(customer_id = toUUID(\'ffffffff-ffff-ffff-ffff-ffffffffffff\'), 1, bitXor(byteSwap(reinterpretAsUInt64(substring(UUIDToNum(customer_id), 1, 8))), byteSwap(reinterpretAsUInt64(substring(UUIDToNum(customer_id), 9, 8)))))) AS no_change FROM sojourn.subjects_g7 FINAL WHERE customer_id != subject_id'))
LAYOUT(HASHED())
LIFETIME(0);

