CREATE OR REPLACE VIEW subjects AS
SELECT
    subject_id,
    subject,
    customer_id
FROM sojourn.subjects_g7 FINAL
WHERE customer_id != subject_id
COMMENT 'g7';

CREATE OR REPLACE VIEW customers AS
SELECT
    customer_id,
    user_ids,
    stage,
    stage_since,
    first_seen,
    last_seen,
    purchases,
    refunds,
    revenue,
    traits,
    outlook,
    position,
    clock
FROM sojourn.customers_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

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
FROM sojourn.stage_transitions_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW identity_conflicts AS
SELECT
    event_id,
    subject_id,
    subject,
    other_id,
    other,
    occurred_at,
    status
FROM sojourn.identity_conflicts_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW accounts AS
SELECT
    account_id,
    group_id,
    stage,
    stage_since,
    first_seen,
    last_seen,
    purchases,
    refunds,
    revenue,
    traits,
    outlook,
    position,
    clock
FROM sojourn.accounts_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW account_members AS
SELECT
    account_id,
    dictGetOrDefault('sojourn.moved_g7', 'customer_id', subject_no, subject_id) AS customer_id,
    min(since) AS since
FROM sojourn.account_members_g7 FINAL
GROUP BY account_id, customer_id
HAVING customer_id != toUUID('ffffffff-ffff-ffff-ffff-ffffffffffff')
COMMENT 'g7';

CREATE OR REPLACE VIEW touchpoints AS
SELECT
    event_id,
    if(dictGet('sojourn.moved_g7', 'customer_id', subject_no) AS moved_to = toUUID('00000000-0000-0000-0000-000000000000'), subject_id, moved_to) AS customer_id,
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
    bitXor(subject_no, dictGet('sojourn.moved_g7', 'no_change', subject_no)) AS customer_no
FROM sojourn.touchpoints_g7
COMMENT 'g7';

