CREATE OR REPLACE VIEW segment_sizes AS
SELECT
    segment,
    day,
    entries,
    exits,
    toUInt64(sum(toInt64(entries) - toInt64(exits)) OVER (PARTITION BY segment ORDER BY day)) AS members
FROM
(
    SELECT segment, toDate(at) AS day, countIf(change = 'entered') AS entries, countIf(change = 'left') AS exits
    FROM {database}.segment_changes
    GROUP BY segment, day
)
COMMENT '{gen}'
