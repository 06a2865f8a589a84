CREATE OR REPLACE VIEW satisfaction_transitions AS
SELECT
    customer_id,
    seq,
    from_status,
    to_status,
    at,
    satisfaction_index,
    reason,
    cause,
    policy_version,
    position,
    clock
FROM {database}.satisfaction_transitions_{gen} FINAL
WHERE removed = 0
COMMENT '{gen}'
