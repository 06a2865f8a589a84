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

CREATE TABLE IF NOT EXISTS loyalty_status_g7
(
    customer_id     UUID,
    programme       LowCardinality(String),
    enrolled_at     Nullable(DateTime64(3, 'UTC')),
    tier            LowCardinality(String),
    tier_since      Nullable(DateTime64(3, 'UTC')),
    tier_until      Nullable(DateTime64(3, 'UTC')),
    tier_by         LowCardinality(String),
    tier_total      Decimal(38, 4),
    next_tier       LowCardinality(String),
    tier_missing    Decimal(38, 4),
    available       Int64,
    pending         Int64,
    debt            Int64,
    earned          Int64,
    adjusted_in     Int64,
    transferred_in  Int64,
    redeemed        Int64,
    expired         Int64,
    reversed        Int64,
    adjusted_out    Int64,
    transferred_out Int64,
    expiring_at     Nullable(DateTime64(3, 'UTC')),
    expiring        Int64,
    point_value     Decimal(18, 4),
    currency        LowCardinality(String),
    position        UInt64,
    clock           DateTime64(3, 'UTC'),
    removed         UInt8,
    version         UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (customer_id, programme)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS loyalty_ledger_g7
(
    customer_id       UUID,
    programme         LowCardinality(String),
    seq               UInt32,
    at                DateTime64(3, 'UTC'),
    kind              LowCardinality(String),
    points            Int64,
    available         Int64,
    pending           Int64,
    debt              Int64,
    balance_available Int64,
    balance_pending   Int64,
    balance_debt      Int64,
    lot               Nullable(Int32),
    expires_at        Nullable(DateTime64(3, 'UTC')),
    order_id          String,
    value             Decimal(18, 4),
    currency          LowCardinality(String),
    cause             String,
    note              String,
    position          UInt64,
    clock             DateTime64(3, 'UTC'),
    removed           UInt8,
    version           UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (customer_id, programme, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS tier_transitions_g7
(
    customer_id    UUID,
    programme      LowCardinality(String),
    seq            UInt32,
    from_tier      LowCardinality(String),
    to_tier        LowCardinality(String),
    at             DateTime64(3, 'UTC'),
    until          Nullable(DateTime64(3, 'UTC')),
    reason         String,
    cause          String,
    policy_version UInt32,
    position       UInt64,
    clock          DateTime64(3, 'UTC'),
    removed        UInt8,
    version        UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (customer_id, programme, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS satisfaction_g7
(
    customer_id        UUID,
    status             LowCardinality(String),
    since              Nullable(DateTime64(3, 'UTC')),
    satisfaction_index Nullable(Float64),
    uncapped_index     Nullable(Float64),
    unknown_from       Nullable(DateTime64(3, 'UTC')),
    signals            UInt32,
    nps_answers        UInt32,
    nps_score          Nullable(Decimal(18, 4)),
    nps_at             Nullable(DateTime64(3, 'UTC')),
    nps_change         Nullable(Float64),
    csat_answers       UInt32,
    csat_score         Nullable(Decimal(18, 4)),
    csat_at            Nullable(DateTime64(3, 'UTC')),
    csat_change        Nullable(Float64),
    ces_answers        UInt32,
    ces_score          Nullable(Decimal(18, 4)),
    ces_at             Nullable(DateTime64(3, 'UTC')),
    ces_change         Nullable(Float64),
    review_answers     UInt32,
    review_score       Nullable(Decimal(18, 4)),
    review_at          Nullable(DateTime64(3, 'UTC')),
    review_change      Nullable(Float64),
    flagged            UInt32,
    open_complaints    UInt32,
    open_tickets       UInt32,
    position           UInt64,
    clock              DateTime64(3, 'UTC'),
    removed            UInt8,
    version            UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY customer_id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS satisfaction_transitions_g7
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
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS cases_g7
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
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS surveys_g7
(
    customer_id UUID,
    seq         UInt32,
    event_id    UUID,
    sent_at     DateTime64(3, 'UTC'),
    kind        LowCardinality(String),
    survey      String,
    campaign    String,
    answer_id   Nullable(UUID),
    answered_at Nullable(DateTime64(3, 'UTC')),
    position    UInt64,
    clock       DateTime64(3, 'UTC'),
    removed     UInt8,
    version     UInt128 MATERIALIZED bitOr(bitShiftLeft(toUInt128(position), 64), toUInt128(toUnixTimestamp64Milli(clock)))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (customer_id, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS feedback_g7
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
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS feedback_handling_g7
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
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS delivery_facts_g7
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
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS segment_stays_g7
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

