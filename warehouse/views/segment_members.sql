CREATE OR REPLACE VIEW segment_members AS
SELECT
    segment,
    customer_id,
    entered_at AS since,
    entered_cause AS cause
FROM {database}.segment_stays
WHERE left_at IS NULL
COMMENT '{gen}'
