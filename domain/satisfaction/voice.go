package satisfaction

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"sojourn/domain/policy"
)

// Sorted is what a comment is about.
type Sorted struct {
	Topics   []string // in the order of the rules; nil where none fits
	Need     string   // functional, emotional or social
	Priority string   // high, medium or low
}

// maxComment bounds how much of a comment is looked at, in bytes.
const maxComment = 16 << 10

// Sort sorts a comment by the policy's rules: the topics of all that fit, the need
// of the first that names one, the highest priority. An empty comment has no
// topic, no need and no priority. It depends on the comment and the policy alone.
func (r *Rules) Sort(comment string) Sorted {
	t := foldText(cut(comment, maxComment))
	if strings.TrimSpace(t) == "" {
		return Sorted{}
	}
	s := Sorted{Need: policy.Needs[0], Priority: policy.Priorities[len(policy.Priorities)-1]}
	needed := false
	for i := range r.voice {
		v := &r.voice[i]
		topic := v.topic != "" && !slices.Contains(s.Topics, v.topic)
		need := v.need != "" && !needed
		urgent := v.priority != "" && slices.Index(policy.Priorities, v.priority) < slices.Index(policy.Priorities, s.Priority)
		if !topic && !need && !urgent || !v.fits(t) {
			continue
		}
		if topic {
			s.Topics = append(s.Topics, v.topic)
		}
		if need {
			s.Need, needed = v.need, true
		}
		if urgent {
			s.Priority = v.priority
		}
	}
	return s
}

// voiceRule is a policy.VoiceRule with its words folded.
type voiceRule struct {
	topic, need, priority string
	words, unless         []word
	patterns              []*regexp.Regexp
}

// word is a word or phrase; open says at which end it may go on.
type word struct {
	text              string
	openFront, openAt bool
}

func compileVoice(v policy.VoiceRule) voiceRule {
	r := voiceRule{topic: v.Topic, need: v.Need, priority: v.Priority}
	for _, w := range v.Words {
		r.words = append(r.words, compileWord(w))
	}
	for _, w := range v.Unless {
		r.unless = append(r.unless, compileWord(w))
	}
	for _, p := range v.Patterns {
		if re, err := regexp.Compile(p); err == nil {
			r.patterns = append(r.patterns, re)
		}
	}
	return r
}

func compileWord(s string) word {
	s = foldText(strings.TrimSpace(s))
	var w word
	s, w.openFront = strings.CutPrefix(s, "*")
	s, w.openAt = strings.CutSuffix(s, "*")
	w.text = s
	// Scripts that do not part words have no ends to look for.
	head, _ := utf8.DecodeRuneInString(s)
	tail, _ := utf8.DecodeLastRuneInString(s)
	w.openFront = w.openFront || !parted(head)
	w.openAt = w.openAt || !parted(tail)
	return w
}

func (v *voiceRule) fits(t string) bool {
	for _, w := range v.unless {
		for {
			at := w.find(t)
			if at < 0 {
				break
			}
			// A mark in its place keeps what stands around it apart.
			t = t[:at] + "\x00" + t[at+len(w.text):]
		}
	}
	for _, w := range v.words {
		if w.find(t) >= 0 {
			return true
		}
	}
	for _, p := range v.patterns {
		if p.MatchString(t) {
			return true
		}
	}
	return false
}

// find is where the word stands in a folded text, or -1.
func (w word) find(t string) int {
	if w.text == "" {
		return -1
	}
	for from := 0; ; {
		at := strings.Index(t[from:], w.text)
		if at < 0 {
			return -1
		}
		at += from
		end := at + len(w.text)
		before, _ := utf8.DecodeLastRuneInString(t[:at])
		after, _ := utf8.DecodeRuneInString(t[end:])
		if (w.openFront || !parted(before)) && (w.openAt || !parted(after)) {
			return at
		}
		_, size := utf8.DecodeRuneInString(t[at:])
		from = at + size
	}
}

// unparted are the scripts in which words stand without spaces between them.
var unparted = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar,
}

// parted reports whether a rune belongs to a word that spaces part from others.
func parted(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	}
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r)) && !unicode.In(r, unparted...)
}

// foldText is text in lower case, full-width letters and signs as the usual ones,
// all apostrophes alike, and white space as one space.
func foldText(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	space := false
	for _, r := range s {
		switch {
		case r >= 0xff01 && r <= 0xff5e:
			r -= 0xff01 - '!'
		case r == '\u2019' || r == '\u2018' || r == '\u02bc' || r == '`':
			r = '\''
		case r == 0: // is ours
			r = ' '
		}
		if unicode.IsSpace(r) {
			space = true
			continue
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(unicode.ToLower(r))
	}
	if space {
		b.WriteByte(' ')
	}
	return b.String()
}
