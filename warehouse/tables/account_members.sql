CREATE TABLE IF NOT EXISTS account_members_{gen}
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
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
