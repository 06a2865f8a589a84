CREATE OR REPLACE VIEW segment_stays AS
SELECT
    segment,
    customer_id,
    seq,
    entered_at,
    entered_cause,
    left_at,
    left_cause,
    position,
    clock
FROM {database}.segment_stays_{gen} FINAL
WHERE removed = 0
COMMENT '{gen}'
