CREATE OR REPLACE VIEW segment_changes AS
SELECT
    segment,
    customer_id,
    seq,
    moved.1 AS change,
    moved.2 AS at,
    moved.3 AS cause
FROM {database}.segment_stays
ARRAY JOIN if(left_at IS NULL, [('entered', entered_at, entered_cause)], [('entered', entered_at, entered_cause), ('left', assumeNotNull(left_at), left_cause)]) AS moved
COMMENT '{gen}'
