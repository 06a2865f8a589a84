CREATE OR REPLACE VIEW cases AS
SELECT
    customer_id,
    seq,
    kind,
    case_id,
    opened_at,
    event_id,
    open,
    escalated,
    reopened,
    priority,
    response_at,
    response_took,
    response_target,
    response_due,
    response_verdict,
    resolution_at,
    resolution_took,
    resolution_target,
    resolution_due,
    resolution_verdict,
    position,
    clock
FROM {database}.cases_{gen} FINAL
WHERE removed = 0
COMMENT '{gen}'
