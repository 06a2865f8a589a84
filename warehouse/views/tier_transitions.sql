CREATE OR REPLACE VIEW tier_transitions AS
SELECT
    customer_id,
    programme,
    seq,
    from_tier,
    to_tier,
    at,
    until,
    reason,
    cause,
    policy_version,
    position,
    clock
FROM {database}.tier_transitions_{gen} FINAL
WHERE removed = 0
COMMENT '{gen}'
