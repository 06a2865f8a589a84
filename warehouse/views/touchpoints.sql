CREATE OR REPLACE VIEW touchpoints AS
SELECT
    event_id,
    if(dictGet('{database}.moved_{gen}', 'customer_id', subject_no) AS moved_to = toUUID('00000000-0000-0000-0000-000000000000'), subject_id, moved_to) AS customer_id,
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
    context,
    bitXor(subject_no, dictGet('{database}.moved_{gen}', 'no_change', subject_no)) AS customer_no
FROM {database}.touchpoints_{gen}
COMMENT '{gen}'
