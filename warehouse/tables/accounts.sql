CREATE TABLE IF NOT EXISTS accounts_{gen}
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
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
