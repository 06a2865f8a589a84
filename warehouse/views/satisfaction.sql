CREATE OR REPLACE VIEW satisfaction AS
SELECT
    customer_id,
    status,
    since,
    satisfaction_index,
    uncapped_index,
    unknown_from,
    signals,
    nps_answers,
    nps_score,
    nps_at,
    nps_change,
    csat_answers,
    csat_score,
    csat_at,
    csat_change,
    ces_answers,
    ces_score,
    ces_at,
    ces_change,
    review_answers,
    review_score,
    review_at,
    review_change,
    flagged,
    open_complaints,
    open_tickets,
    position,
    clock
FROM {database}.satisfaction_{gen} FINAL
WHERE removed = 0
COMMENT '{gen}'
