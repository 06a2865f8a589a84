CREATE OR REPLACE VIEW stage_transitions AS
SELECT
    customer_id,
    seq,
    from_stage,
    to_stage,
    at,
    reason,
    cause,
    policy_version,
    position,
    clock
FROM {database}.stage_transitions_{gen} FINAL
WHERE removed = 0
COMMENT '{gen}'
