package satisfaction_test

import (
	"testing"

	"sojourn/domain/policy"
)

func TestStatus(t *testing.T) {
	run(t, []spec{
		{
			name: "nothing is known of a customer who has said nothing",
			view: "unknown, open 0/0",
		},
		{
			name:   "delighted: a promoter",
			given:  all(nps(day(0), "9")),
			then:   []string{"0d delighted 90 #1: NPS 9 of 10"},
			future: []string{"180d+1ms unknown faded of #1: the last answer is too old"},
			view:   "delighted 90, nps 9 ×1, open 0/0",
		},
		{
			name:  "satisfied: seven of ten",
			given: all(nps(day(0), "7")),
			then:  []string{"0d satisfied 70 #1: NPS 7 of 10"},
		},
		{
			name:  "neutral: three of five",
			given: all(csat(day(0), "3")),
			then:  []string{"0d neutral 50 #1: CSAT 3 of 5"},
		},
		{
			name:  "unhappy: a review of one star",
			given: all(review(day(0), "1")),
			then:  []string{"0d unhappy 0 #1: review 1 of 5"},
		},
		{
			name:  "the lower bound of a status belongs to it",
			rules: func(s *policy.Satisfaction) { s.Status.Satisfied = 70 },
			given: all(nps(day(0), "7")),
			then:  []string{"0d satisfied 70 #1"},
		},
		{
			name:  "and so does that of the best",
			rules: func(s *policy.Satisfaction) { s.Status.Delighted = 90 },
			given: all(nps(day(0), "9")),
			then:  []string{"0d delighted 90 #1"},
		},
		{
			name:  "a status that stays is not said again",
			given: all(nps(day(0), "9"), nps(day(1), "10"), csat(day(2), "5")),
			then:  []string{"0d delighted 90 #1"},
		},
		{
			name:  "the later of two answers counts twice as much after a half-life",
			given: all(nps(day(0), "0"), nps(day(90), "9")),
			then:  []string{"0d unhappy 0 #1", "90d neutral 60 #2: NPS 9 of 10"},
			view:  "neutral 60, nps 9 ×2 +90, open 0/0",
		},
		{
			name:  "weights: a review counts half",
			given: all(nps(day(0), "10"), review(day(0), "1")),
			then:  []string{"0d delighted 100 #1", "0d satisfied 66.67 #2: review 1 of 5"},
		},
		{
			name:  "kinds without weight move nothing",
			rules: func(s *policy.Satisfaction) { s.Weights.CES = 0 },
			given: all(ces(day(0), "7"), on(day(1), policy.ActSurveyAnswered, "kind=custom, score=1, scale=5")),
			view:  "unknown, ces 7 ×1, open 0/0",
		},
		{
			name:  "a custom score with a scale moves the index where the policy weighs it",
			rules: func(s *policy.Satisfaction) { s.Weights.Custom = 1 },
			given: all(on(day(0), policy.ActSurveyAnswered, "kind=mood, score=2.5, scale=1-4"), on(day(1), policy.ActSurveyAnswered, "score=1")),
			then:  []string{"0d neutral 50 #1: survey 2.5 of 4"},
		},
		{
			name:  "time alone does not move the index",
			given: all(nps(day(0), "9"), nps(day(30), "3")),
			until: day(200),
			then:  []string{"0d delighted 90 #1", "30d neutral 56.55 #2"},
			view:  "neutral 56.55, nps 3 ×2 -60, open 0/0",
		},
	})
}

func TestUnknown(t *testing.T) {
	run(t, []spec{
		{
			name:  "at the floor it is known",
			given: all(nps(day(0), "9")),
			until: day(180),
			then:  []string{"0d delighted 90 #1"},
		},
		{
			name:  "a millisecond later it is not",
			given: all(nps(day(0), "9")),
			until: day(180, ms),
			then:  []string{"0d delighted 90 #1", "180d+1ms unknown faded of #1"},
			view:  "unknown, nps 9 ×1, open 0/0",
		},
		{
			name:   "more answers last longer",
			given:  all(nps(day(0), "9"), csat(day(0), "5"), ces(day(0), "7"), nps(day(0), "10")),
			future: []string{"360d+1ms unknown faded of #4: the last answer is too old"},
			then:   []string{"0d delighted 90 #1"},
		},
		{
			name:  "a deadline counts from the last signal, not from what says nothing of it",
			given: all(nps(day(0), "9"), on(day(100), policy.ActTicketOpened, "ticket_id=1"), nps(day(120), "11")),
			until: day(300),
			then:  []string{"0d delighted 90 #1", "180d+1ms unknown faded of #1"},
			view:  "unknown, nps 9 ×1, 1 flagged, open 0/1",
		},
		{
			name:  "known again, with what was said before",
			given: all(nps(day(0), "0"), nps(day(360), "10")),
			then:  []string{"0d unhappy 0 #1", "180d+1ms unknown faded of #1", "360d delighted 94.12 #2: NPS 10 of 10"},
		},
		{
			name:  "a weight below the floor is not enough",
			rules: func(s *policy.Satisfaction) { s.Floor = 1 },
			given: all(review(day(0), "5")),
			view:  "unknown, review 5 ×1, open 0/0",
		},
		{
			name:  "two together are, until the first is older",
			rules: func(s *policy.Satisfaction) { s.Floor = 1 },
			given: all(review(day(0), "5"), review(day(0), "5")),
			until: day(1),
			then:  []string{"0d delighted 100 #2: review 5 of 5", "0d+1ms unknown faded of #2"},
		},
		{
			name:  "an answer at the instant of the deadline goes before it",
			given: all(nps(day(0), "9"), nps(day(180, ms), "10")),
			then:  []string{"0d delighted 90 #1"},
		},
		{
			name:  "what goes before a deadline at its instant does not stop it",
			given: all(nps(day(0), "9"), complain(day(180, ms), "c")),
			then:  []string{"0d delighted 90 #1", "180d+1ms unhappy 40 #2: complaint opened", "180d+1ms unknown faded of #1"},
		},
	})
}

func TestComplaints(t *testing.T) {
	run(t, []spec{
		{
			name:  "an open complaint caps the index",
			given: all(nps(day(0), "10"), complain(day(1), "c")),
			then:  []string{"0d delighted 100 #1", "1d unhappy 40 #2: complaint opened"},
			view:  "unhappy 40 (100), nps 10 ×1, open 1/0",
		},
		{
			name:  "until it is resolved",
			given: all(nps(day(0), "10"), complain(day(1), "c"), settle(day(3), "c")),
			then:  []string{"0d delighted 100 #1", "1d unhappy 40 #2", "3d delighted 100 #3: complaint resolved"},
		},
		{
			name:  "an index below the cap stays",
			given: all(nps(day(0), "1"), complain(day(1), "c")),
			then:  []string{"0d unhappy 10 #1"},
			view:  "unhappy 10, nps 1 ×1, open 1/0",
		},
		{
			name:  "a better answer does not lift the cap",
			given: all(nps(day(0), "2"), complain(day(1), "c"), nps(day(2), "10")),
			then:  []string{"0d unhappy 20 #1"},
		},
		{
			name:  "a complaint alone says nothing of the index",
			given: all(complain(day(0), "c")),
			view:  "unknown, open 1/0",
		},
		{
			name:  "two complaints: the last to be resolved lifts the cap",
			given: all(nps(day(0), "9"), complain(day(1), "a"), complain(day(2), "b"), settle(day(3), "a"), settle(day(4), "b")),
			then:  []string{"0d delighted 90 #1", "1d unhappy 40 #2", "4d delighted 90 #5: complaint resolved"},
		},
		{
			name:  "one that is opened again caps again",
			given: all(nps(day(0), "9"), complain(day(1), "a"), settle(day(2), "a"), complain(day(3), "a")),
			then:  []string{"0d delighted 90 #1", "1d unhappy 40 #2", "2d delighted 90 #3", "3d unhappy 40 #4"},
			cases: []string{"complaint a open reopened×1; first response …24h breached due 3d; resolution …24h pending due 9d"},
		},
		{
			name:  "one of whose opening nothing is known is open from what was heard of it",
			given: all(nps(day(0), "9"), on(day(1), policy.ActComplaintUpdated, "complaint_id=a, by=agent")),
			then:  []string{"0d delighted 90 #1", "1d unhappy 40 #2: complaint known of"},
			cases: []string{"complaint a open not timed"},
		},
		{
			loose: true,
			name:  "the Resolved that came before its Opened resolves it at once",
			given: all(nps(day(0), "9"), settle(day(1), "a"), complain(day(2), "a")),
			then:  []string{"0d delighted 90 #1"},
			cases: []string{"complaint a; first response …0h; resolution 0h met"},
		},
		{
			loose: true,
			name:  "without ids a Resolved is of the last one opened",
			given: all(nps(day(0), "9"), on(day(1), policy.ActComplaintOpened, ""), on(day(2), policy.ActComplaintOpened, ""), on(day(3), policy.ActComplaintResolved, "")),
			then:  []string{"0d delighted 90 #1", "1d unhappy 40 #2"},
			view:  "unhappy 40 (90), nps 9 ×1, open 1/0",
		},
	})
}

func TestScoresThatCountNowhere(t *testing.T) {
	run(t, []spec{
		{
			name:  "NPS is whole, 0 to 10",
			given: all(nps(day(0), "11"), nps(day(1), "-1"), nps(day(2), "7.5"), nps(day(3), "ten"), on(day(4), policy.ActSurveyAnswered, "kind=nps, score=4, scale=5")),
			view:  "unknown, 5 flagged, open 0/0",
		},
		{
			name:  "numbers may be text",
			given: all(nps(day(0), `"9"`), on(day(1), policy.ActSurveyAnswered, `kind=NPS, score="10.0", scale=0-10`)),
			view:  "delighted 95.02, nps 10 ×2 +10, open 0/0",
			then:  []string{"0d delighted 90 #1"},
		},
		{
			name:  "CSAT on a scale that the policy does not list",
			given: all(on(day(0), policy.ActSurveyAnswered, "kind=csat, score=7, scale=7"), csat(day(1), "6")),
			view:  "unknown, 2 flagged, open 0/0",
		},
		{
			name: "CSAT on one that it lists",
			rules: func(s *policy.Satisfaction) {
				s.CSAT = []policy.CSATScale{{Scale: "1-7", Satisfied: []int{6, 7}}}
			},
			given: all(on(day(0), policy.ActSurveyAnswered, "kind=csat, score=7, scale=7")),
			then:  []string{"0d delighted 100 #1: CSAT 7 of 7"},
		},
		{
			name:  "CES of 1 is hard",
			given: all(ces(day(0), "1"), ces(day(0), "8"), ces(day(0), "0")),
			then:  []string{"0d unhappy 0 #1: CES 1 of 7"},
			view:  "unhappy 0, ces 1 ×1, 2 flagged, open 0/0",
		},
		{
			name:  "or easy, where the policy says so",
			rules: func(s *policy.Satisfaction) { s.CESEasy = policy.Low },
			given: all(ces(day(0), "1")),
			then:  []string{"0d delighted 100 #1: CES 1 of 7"},
		},
		{
			name:  "an answer that is a comment only is not flagged",
			given: all(on(day(0), policy.ActSurveyAnswered, "kind=nps, comment=nice")),
			view:  "unknown, open 0/0",
		},
		{
			name:  "ratings are text",
			given: all(review(day(0), `"4,5"`), review(day(0), "★★★★☆"), review(day(0), "4 out of 5"), review(day(0), "8/10"), review(day(0), "6"), review(day(0), "great")),
			view:  "satisfied 78.82, review 8 ×4 +2.778, 2 flagged, open 0/0",
			then:  []string{"0d delighted 87.5 #1", "0d satisfied 81.25 #2"},
		},
	})
}

func TestSurveys(t *testing.T) {
	sent := func(d int, properties string) (touch satisfactionTouch) {
		return on(day(d), policy.ActSurveySent, properties)
	}
	run(t, []spec{
		{
			name: "an answer is to the last survey of its id",
			given: all(sent(0, "survey_id=1, kind=nps"), sent(1, "survey_id=1, kind=nps"), sent(2, "survey_id=2"),
				on(day(3), policy.ActSurveyAnswered, "survey_id=1, kind=nps, score=9")),
			then: []string{"3d delighted 90 #4"},
			sent: "#1, #2 by #4, #3",
		},
		{
			name: "without an id to the last of its campaign and kind",
			given: all(sent(0, "campaign=spring, kind=csat"), sent(1, "campaign=summer, kind=csat"), sent(2, "campaign=spring, kind=nps"),
				on(day(3), policy.ActSurveyAnswered, "campaign=spring, kind=csat, score=3")),
			then: []string{"3d neutral 50 #4"},
			sent: "#1 by #4, #2, #3",
		},
		{
			name:  "a second answer to one survey answers no other",
			given: all(sent(0, "kind=nps"), sent(1, "kind=nps"), nps(day(2), "9"), nps(day(3), "9")),
			then:  []string{"2d delighted 90 #3"},
			sent:  "#1, #2 by #3",
		},
		{
			name:  "what is sent after an answer is not answered by it",
			given: all(nps(day(0), "9"), sent(1, "kind=nps")),
			then:  []string{"0d delighted 90 #1"},
			sent:  "#2",
		},
		{
			name: "a score that counts nowhere answers no survey, a later one does",
			given: all(sent(0, "kind=nps"), sent(0, "kind=csat"), sent(0, "kind=ces"),
				nps(day(1), "11"), nps(day(1), "9.5"), on(day(1), policy.ActSurveyAnswered, "kind=csat, score=3, scale=1-6"), ces(day(1), "soon"),
				nps(day(2), "9")),
			then: []string{"2d delighted 90 #8"},
			view: "delighted 90, nps 9 ×1, 4 flagged, open 0/0",
			sent: "#1 by #8, #2, #3",
		},
		{
			name:  "an answer that is a comment only answers its survey",
			given: all(sent(0, "kind=nps"), on(day(1), policy.ActSurveyAnswered, "kind=nps, comment=late")),
			sent:  "#1 by #2",
		},
		{
			name:  "a review answers no survey",
			given: all(sent(0, ""), review(day(1), "5")),
			then:  []string{"1d delighted 100 #2"},
			sent:  "#1",
		},
	})
}
