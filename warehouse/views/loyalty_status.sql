CREATE OR REPLACE VIEW loyalty_status AS
SELECT
    customer_id,
    programme,
    enrolled_at,
    tier,
    tier_since,
    tier_until,
    tier_by,
    tier_total,
    next_tier,
    tier_missing,
    available,
    pending,
    debt,
    earned,
    adjusted_in,
    transferred_in,
    redeemed,
    expired,
    reversed,
    adjusted_out,
    transferred_out,
    expiring_at,
    expiring,
    point_value,
    currency,
    position,
    clock
FROM {database}.loyalty_status_{gen} FINAL
WHERE removed = 0
COMMENT '{gen}'
