CREATE OR REPLACE VIEW loyalty_tiers AS
SELECT
    programme,
    tier,
    count() AS members,
    countIf((customer_id, programme) IN (
        SELECT customer_id, programme FROM {database}.loyalty_ledger
        WHERE kind IN ('earned', 'redeemed') AND at > (SELECT max(clock) FROM {database}.loyalty_status) - INTERVAL 365 DAY
    )) AS active_members
FROM {database}.loyalty_status
WHERE isNotNull(enrolled_at)
GROUP BY programme, tier
COMMENT '{gen}'
