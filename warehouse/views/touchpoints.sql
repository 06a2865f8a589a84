CREATE OR REPLACE VIEW touchpoints AS
SELECT
    event_id,
    dictGetOrDefault('{database}.moved_{gen}', 'customer_id', subject_no, subject_id) AS customer_id,
    subject,
    user_id,
    anonymous_id,
    source,
    type,
    name,
    meaning,
    channel,
    occurred_at,
    received_at,
    recorded_at,
    position,
    amount,
    currency,
    order_id,
    if(flags = '', [], splitByChar(',', flags)) AS flags,
    properties,
    context
FROM {database}.touchpoints_{gen}
COMMENT '{gen}'
