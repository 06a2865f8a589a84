package satisfaction

import (
	"math"
	"slices"

	"sojourn/domain"
	"sojourn/domain/policy"
)

// Rules are a policy's section made ready to judge. They are immutable and safe
// for concurrent use.
type Rules struct {
	halfLife      float64 // in milliseconds
	weights       [kinds]float64
	floor, cap    float64
	status        policy.StatusBounds
	csat          map[Scale][]int
	easyLow       bool
	firstResponse *Calendar
	resolution    *Calendar
	pauseWaiting  bool
	targets       []target
	voice         []voiceRule
	service       policy.ServiceLevels
	values        []domain.Decimal // of the levels of service
	currency      string
}

type target struct {
	kind                      CaseKind
	priority                  string // empty for any
	firstResponse, resolution domain.Millis
}

// Compile makes a policy ready to judge. It takes the policy as it is: what
// Validate would refuse fits nothing, and an unknown time zone is UTC.
func Compile(p *policy.Compiled) *Rules {
	s := p.Satisfaction()
	r := &Rules{
		halfLife: float64(policy.Days(s.HalfLifeDays)),
		weights:  [kinds]float64{NPS: s.Weights.NPS, CSAT: s.Weights.CSAT, CES: s.Weights.CES, Review: s.Weights.Review, Custom: s.Weights.Custom},
		floor:    s.Floor, cap: s.ComplaintCap, status: s.Status,
		csat:          map[Scale][]int{},
		easyLow:       s.CESEasy == policy.Low,
		firstResponse: &Calendar{}, resolution: &Calendar{},
		pauseWaiting: s.Clocks.PauseWaiting,
		service:      s.Service,
		currency:     p.Currency(),
	}
	for _, c := range s.CSAT {
		if low, high, ok := policy.ParseScale(c.Scale); ok {
			r.csat[Scale{low, high}] = c.Satisfied
		}
	}
	business := NewCalendar(s.Hours)
	if s.Clocks.FirstResponse == policy.Business {
		r.firstResponse = business
	}
	if s.Clocks.Resolution == policy.Business {
		r.resolution = business
	}
	const minute domain.Millis = 60_000
	for _, t := range s.Targets {
		if kind, ok := ParseCaseKind(t.Case); ok {
			r.targets = append(r.targets, target{
				kind, t.Priority, domain.Millis(t.FirstResponseMinutes) * minute, domain.Millis(t.ResolutionMinutes) * minute,
			})
		}
	}
	for _, v := range s.Voice.Rules {
		r.voice = append(r.voice, compileVoice(v))
	}
	for _, l := range s.Service.Levels {
		d, _ := domain.ParseDecimal(l.Value)
		r.values = append(r.values, d)
	}
	return r
}

// The flags of scores that are kept and counted nowhere.
const (
	FlagNoScore      = "no_score"
	FlagUnreadable   = "score_unreadable"
	FlagUnknownScale = "unknown_scale" // of CSAT: one that the policy does not list
	FlagOutOfScale   = "out_of_scale"
)

// Score is what a score counts for.
type Score struct {
	Kind  Kind
	Value domain.Decimal // as given
	Scale Scale          // on which it was judged; zero for a custom score without one
	// Flag says why the score counts nowhere; empty where it counts.
	Flag string
	// Points are the score from 0, the worst, to 100.
	Points float64
	// Good: a promoter (NPS), satisfied (CSAT), easy (CES, upper three of seven).
	// Bad: a detractor (NPS).
	Good, Bad bool
	// Ease is a CES score turned so that 7 is easy.
	Ease int
}

// flagged reports whether there is a score, and it counts nowhere.
func (s *Score) flagged() bool { return s.Flag != "" && s.Flag != FlagNoScore }

// Judge says what the score of an answer or a review counts for. Whatever its
// kind, a score that is not on its scale is flagged; scores of NPS, CSAT and CES
// are whole.
func (r *Rules) Judge(e Event) Score {
	return r.judge(e.Kind, e.State, e.Score, e.Scale)
}

func (r *Rules) judge(kind Kind, state ScoreState, value domain.Decimal, scale Scale) Score {
	s := Score{Kind: kind, Value: value, Scale: scale}
	switch state {
	case ScoreNone:
		s.Flag = FlagNoScore
		return s
	case ScoreUnreadable:
		s.Flag = FlagUnreadable
		return s
	}
	var satisfied []int
	usual := Scale{}
	switch kind {
	case NPS:
		usual = Scale{0, 10}
	case CES:
		usual = Scale{1, 7}
	case CSAT, Review:
		usual = Scale{1, 5}
	}
	if s.Scale == (Scale{}) {
		s.Scale = usual
	}
	switch kind {
	case NPS, CES:
		// On another scale another question was asked.
		if s.Scale != usual {
			s.Flag = FlagOutOfScale
			return s
		}
	case CSAT:
		var ok bool
		if satisfied, ok = r.csat[s.Scale]; !ok {
			s.Flag = FlagUnknownScale
			return s
		}
	case Custom:
		if s.Scale == (Scale{}) {
			return s
		}
	}
	const one = 10_000 // ten-thousandths
	low, high := domain.Decimal(s.Scale.Low)*one, domain.Decimal(s.Scale.High)*one
	whole := value%one == 0 || kind == Review || kind == Custom
	if value < low || value > high || low >= high || !whole {
		s.Flag = FlagOutOfScale
		return s
	}
	s.Points = 100 * float64(value-low) / float64(high-low)
	n := int(value / one)
	switch kind {
	case NPS:
		s.Good, s.Bad = n >= 9, n <= 6
	case CSAT:
		s.Good = slices.Contains(satisfied, n)
	case CES:
		s.Ease = n
		if r.easyLow {
			s.Ease = 8 - n
			s.Points = 100 - s.Points
		}
		s.Good = s.Ease >= 5
	}
	return s
}

// weight is what a judged score weighs in the index when it is given.
func (r *Rules) weight(s Score) float64 {
	if s.Flag != "" || s.Scale == (Scale{}) {
		return 0
	}
	return r.weights[s.Kind]
}

// age is what remains of a weight after some time.
func (r *Rules) age(d domain.Millis) float64 { return math.Exp2(-float64(d) / r.halfLife) }

// statusOf is the status of an index that is known.
func (r *Rules) statusOf(index float64) Status {
	switch {
	case index >= r.status.Delighted:
		return Delighted
	case index >= r.status.Satisfied:
		return Satisfied
	case index >= r.status.Neutral:
		return Neutral
	}
	return Unhappy
}
