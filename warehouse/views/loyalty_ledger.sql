CREATE OR REPLACE VIEW loyalty_ledger AS
SELECT
    customer_id,
    programme,
    seq,
    at,
    kind,
    points,
    available,
    pending,
    debt,
    balance_available,
    balance_pending,
    balance_debt,
    lot,
    expires_at,
    order_id,
    value,
    currency,
    cause,
    note,
    position,
    clock
FROM {database}.loyalty_ledger_{gen} FINAL
WHERE removed = 0
COMMENT '{gen}'
