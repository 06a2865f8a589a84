CREATE TABLE IF NOT EXISTS satisfaction_{gen}
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
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
