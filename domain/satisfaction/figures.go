package satisfaction

import (
	"cmp"
	"slices"

	"github.com/google/uuid"

	"sojourn/domain"
)

// Answer is a row of feedback: one answer or review, and where the customer stood
// then.
type Answer struct {
	Customer uuid.UUID
	Ref
	Score                        Score
	Stage, Tier, Channel, Source string
}

// Filter chooses rows; what is empty chooses any. From is included, To is not;
// zero times are open ends.
type Filter struct {
	From, To                     domain.Millis
	Stage, Tier, Channel, Source string
}

func (f Filter) fits(at domain.Millis, stage, tier, channel, source string) bool {
	return (f.From == 0 || at >= f.From) && (f.To == 0 || at < f.To) &&
		(f.Stage == "" || f.Stage == stage) && (f.Tier == "" || f.Tier == tier) &&
		(f.Channel == "" || f.Channel == channel) && (f.Source == "" || f.Source == source)
}

// Choose are the answers that fit, in their order. Only then, unless every answer
// is wanted, the last of each customer and kind is taken: of those that count, by
// time, then event id.
func Choose(rows []Answer, f Filter, every bool) []Answer {
	var chosen []Answer
	for _, a := range rows {
		if a.Score.Flag == "" && f.fits(a.At, a.Stage, a.Tier, a.Channel, a.Source) {
			chosen = append(chosen, a)
		}
	}
	slices.SortFunc(chosen, func(a, b Answer) int { return cmp.Or(a.Compare(b.Ref), slices.Compare(a.Customer[:], b.Customer[:])) })
	if every {
		return chosen
	}
	type key struct {
		customer uuid.UUID
		kind     Kind
	}
	last := make(map[key]int, len(chosen))
	for i, a := range chosen {
		last[key{a.Customer, a.Score.Kind}] = i
	}
	kept := chosen[:0]
	for i, a := range chosen {
		if last[key{a.Customer, a.Score.Kind}] == i {
			kept = append(kept, a)
		}
	}
	return kept
}

// Opinions are the figures of answers. None depends on the order of the rows.
type Opinions struct {
	NPS  NetPromoter
	CSAT Share // satisfied
	// CES is the mean of scores turned so that 7 is easy, Easy the share of 5 to 7.
	CES  Mean
	Easy Share
}

// OpinionsOf are the figures of the answers given, as Choose chose them.
func OpinionsOf(rows []Answer) Opinions {
	var promoters, detractors, nps, satisfied, csat, easy, ces int
	var sum, squares int64
	for _, a := range rows {
		s := a.Score
		if s.Flag != "" {
			continue
		}
		switch s.Kind {
		case NPS:
			nps++
			promoters += count(s.Good)
			detractors += count(s.Bad)
		case CSAT:
			csat++
			satisfied += count(s.Good)
		case CES:
			ces++
			easy += count(s.Good)
			sum += int64(s.Ease)
			squares += int64(s.Ease) * int64(s.Ease)
		}
	}
	return Opinions{
		NPS:  NetPromoterOf(promoters, nps-promoters-detractors, detractors),
		CSAT: ShareOf(satisfied, csat),
		CES:  MeanOf(ces, sum, squares),
		Easy: ShareOf(easy, ces),
	}
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// SentRow is a survey that was sent to a customer, with where it stood then.
type SentRow struct {
	Customer uuid.UUID
	Survey
	Stage, Tier, Channel, Source string
}

// ResponseRate is the share of the surveys sent in a period that were answered,
// whenever that was.
func ResponseRate(rows []SentRow, f Filter) Share {
	sent, answered := 0, 0
	for _, r := range rows {
		if f.fits(r.Sent.At, r.Stage, r.Tier, r.Channel, r.Source) {
			sent++
			answered += count(r.Answered)
		}
	}
	return ShareOf(answered, sent)
}

// CaseRow is a case of a customer, with where it stood when it was opened.
type CaseRow struct {
	Customer uuid.UUID
	Case
	Stage, Tier, Channel, Source string
}

// ServiceFigures are how the cases opened in a period were served.
type ServiceFigures struct {
	Opened, Resolved int
	// FirstResponse and Resolution are quantiles of the times it took, over the
	// cases that are done; zero where there is none.
	FirstResponseP50, FirstResponseP90 domain.Millis
	ResolutionP50, ResolutionP90       domain.Millis
	// Within are the shares that met their target, of those that met or breached it.
	FirstResponseWithin, ResolutionWithin Share
}

// ServiceOf are the figures of the cases of a kind whose opening fits the filter.
// A case whose opening has not been seen belongs to no period.
func ServiceOf(rows []CaseRow, kind CaseKind, f Filter) ServiceFigures {
	var s ServiceFigures
	var responses, resolutions []domain.Millis
	var met, due [2]int
	for _, r := range rows {
		if r.Kind != kind || !r.HasOpened || !f.fits(r.Opened.At, r.Stage, r.Tier, r.Channel, r.Source) {
			continue
		}
		s.Opened++
		if r.FirstResponse.Done {
			responses = append(responses, r.FirstResponse.Took)
		}
		if r.Resolution.Done {
			s.Resolved++
			resolutions = append(resolutions, r.Resolution.Took)
		}
		for i, t := range [...]Timing{r.FirstResponse, r.Resolution} {
			met[i] += count(t.Verdict == VerdictMet)
			due[i] += count(t.Verdict == VerdictMet || t.Verdict == VerdictBreached)
		}
	}
	s.FirstResponseP50, s.FirstResponseP90 = Quantile(responses, 50), Quantile(responses, 90)
	s.ResolutionP50, s.ResolutionP90 = Quantile(resolutions, 50), Quantile(resolutions, 90)
	s.FirstResponseWithin, s.ResolutionWithin = ShareOf(met[0], due[0]), ShareOf(met[1], due[1])
	return s
}

// Quantile is the nearest rank: the least of the values that at least so many
// percent of them do not exceed, in SQL arraySort(v)[ceil(n * percent / 100)]. It
// sorts the values; of none it is 0.
func Quantile(values []domain.Millis, percent int) domain.Millis {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	rank := (len(values)*percent + 99) / 100
	return values[max(rank, 1)-1]
}

// PerThousand is how many complaints there are for each thousand orders; 0 where
// there is no order.
func PerThousand(complaints, orders int) float64 {
	if orders == 0 {
		return 0
	}
	return 1000 * float64(complaints) / float64(orders)
}
