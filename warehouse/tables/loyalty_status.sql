CREATE TABLE IF NOT EXISTS loyalty_status_{gen}
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
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
