CREATE TABLE IF NOT EXISTS loyalty_ledger_{gen}
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
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
