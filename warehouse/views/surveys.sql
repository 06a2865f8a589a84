CREATE OR REPLACE VIEW surveys AS
SELECT
    customer_id,
    seq,
    event_id,
    sent_at,
    kind,
    survey,
    campaign,
    channel,
    source,
    answer_id,
    answered_at,
    position,
    clock
FROM {database}.surveys_{gen} FINAL
WHERE removed = 0
COMMENT '{gen}'
