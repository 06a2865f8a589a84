CREATE OR REPLACE VIEW loyalty_programmes AS
SELECT
    programme,
    countIf(isNotNull(s.enrolled_at)) AS members,
    countIf(isNotNull(s.enrolled_at) AND (s.customer_id, s.programme) IN (
        SELECT customer_id, programme FROM {database}.loyalty_ledger
        WHERE kind IN ('earned', 'redeemed') AND at > (SELECT max(clock) FROM {database}.loyalty_status) - INTERVAL 365 DAY
    )) AS active_members,
    sum(s.available) + sum(s.pending) AS points,
    argMax(s.point_value, s.clock) AS point_value,
    toDecimal128(points, 0) * argMax(s.point_value, s.clock) AS liability,
    argMax(s.currency, s.clock) AS currency,
    sum(s.debt) AS debt,
    sum(s.earned) + sum(s.adjusted_in) AS given,
    sum(s.redeemed) AS redeemed,
    sum(s.expired) AS expired,
    if(given = 0, NULL, sum(s.redeemed) / given) AS redemption_rate,
    if(given = 0, NULL, sum(s.expired) / given) AS breakage
FROM {database}.loyalty_status AS s
GROUP BY programme
COMMENT '{gen}'
