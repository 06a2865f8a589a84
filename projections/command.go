package projections

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"sojourn/domain"
	"sojourn/domain/customer"
	"sojourn/domain/loyalty"
	"sojourn/domain/policy"
	"sojourn/eventstore"
)

// commandData is the data of a loyalty.command.v1 event. The event stands in the
// guard stream of the customer that the command was decided for, and belongs to the
// subject it names.
type commandData struct {
	Subject   string `json:"subject"` // its stream
	Programme string `json:"programme"`
	Command   string `json:"command"` // as in commandNames
	At        string `json:"at"`      // RFC 3339, UTC
	Points    int64  `json:"points,omitempty"`
	// Of is the redemption that is cancelled, or the other end of a transfer.
	Of            uuid.UUID   `json:"of,omitzero"`
	Parts         []partOfLot `json:"parts,omitempty"`
	CountsForTier bool        `json:"counts_for_tier,omitempty"`
	Tier          string      `json:"tier,omitempty"`
	TierUntil     string      `json:"tier_until,omitempty"`
	Reason        string      `json:"reason,omitempty"`
	Author        string      `json:"author,omitempty"`
	// Other is the stream of the subject that a transfer goes to or comes from.
	Other string `json:"other,omitempty"`
	// Guard is the fingerprint of the customer's subjects that it was decided for.
	Guard string `json:"guard,omitempty"`
	// Answer is what the one who gave the command was told.
	Answer *commandAnswer `json:"answer,omitempty"`
}

// partOfLot are points with their expiry, empty for never.
type partOfLot struct {
	Points  int64  `json:"points"`
	Expires string `json:"expires,omitempty"`
}

// commandNames are the kinds of command as events have them.
var commandNames = map[string]loyalty.CommandKind{
	"enroll": loyalty.Enroll, "redeem": loyalty.Redeem, "cancel": loyalty.Cancel, "adjust": loyalty.Adjust,
	"transfer_out": loyalty.TransferOut, "transfer_in": loyalty.TransferIn, "opening": loyalty.Opening,
}

// command is a command of the log.
type command struct {
	stream   string // of its subject
	position eventstore.Position
	loyalty.Command
}

func commandOf(e *eventstore.Recorded) (*command, error) {
	var d commandData
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return nil, fmt.Errorf("command at position %d: %w", e.Position, err)
	}
	c := &command{stream: d.Subject, position: e.Position}
	var err error
	if c.Command, err = d.command(e); err != nil {
		return nil, fmt.Errorf("command at position %d: %w", e.Position, err)
	}
	return c, nil
}

func (d *commandData) command(e *eventstore.Recorded) (loyalty.Command, error) {
	kind, ok := commandNames[d.Command]
	if !ok {
		return loyalty.Command{}, fmt.Errorf("unknown command %q", d.Command)
	}
	if _, ok := domain.SubjectStream(d.Subject); !ok {
		return loyalty.Command{}, fmt.Errorf("%q is no subject's stream", d.Subject)
	}
	at, err := time.Parse(time.RFC3339Nano, d.At)
	if err != nil {
		return loyalty.Command{}, err
	}
	c := loyalty.Command{
		Ref: loyalty.Ref{At: domain.MillisOf(at), ID: e.ID}, Kind: kind, Programme: d.Programme, Points: d.Points, Of: d.Of,
		CountsForTier: d.CountsForTier, Tier: d.Tier, Reason: d.Reason, RecordedAt: domain.MillisOf(e.RecordedAt),
	}
	for _, p := range d.Parts {
		part := loyalty.Part{Points: p.Points, Expires: policy.Never}
		if p.Expires != "" {
			expires, err := time.Parse(time.RFC3339Nano, p.Expires)
			if err != nil {
				return loyalty.Command{}, err
			}
			part.Expires = domain.MillisOf(expires)
		}
		c.Parts = append(c.Parts, part)
	}
	if d.TierUntil != "" {
		until, err := time.Parse(time.RFC3339Nano, d.TierUntil)
		if err != nil {
			return loyalty.Command{}, err
		}
		c.TierUntil = domain.MillisOf(until)
	}
	return c, nil
}

// command takes a command into the facts of the subject it names.
func (f *fold) command(cmd *command) {
	s := f.subject(cmd.stream)
	if f.err != nil {
		return
	}
	f.commands[cmd.ID] = cmd
	f.dirty(s)
	var c *cust
	if !s.nobody {
		if c = s.cust; c == nil {
			c = f.customerOf(f.rootOf(s))
		}
	}
	if f.err != nil {
		return
	}
	if c == nil {
		s.facts.Loyalty.AddCommand(cmd.Command)
		return
	}
	f.catchUp(c)
	f.expect(c, nil)
	s.facts.Loyalty.AddCommand(cmd.Command)
	if c.merged != nil {
		c.merged.Loyalty.AddCommand(cmd.Command)
	}
	if c.foreign {
		f.change(c)
		return
	}
	c.due |= customer.Loyalty
	if f.rules.segments != nil {
		c.due |= changedSegments
	}
	if !f.silent {
		c.steps = append(c.steps, taken{ref: cmd.Ref, command: &cmd.Command, before: f.before, at: f.step})
	}
	f.change(c)
}

// The state knows the position of each command by its id, and each transfer of
// which only the first half stands.
func commandKey(id [16]byte) []byte  { return append([]byte{'o'}, id[:]...) }
func transferKey(id [16]byte) []byte { return append([]byte{'y'}, id[:]...) }

func (f *fold) flushCommands(out *piece) {
	for id, c := range f.commands {
		position := binary.BigEndian.AppendUint64(nil, uint64(c.position))
		out.state.set(commandKey(id), position)
		switch c.Kind {
		case loyalty.TransferOut:
			if f.commands[c.Of] == nil {
				out.state.set(transferKey(id), position)
			}
		case loyalty.TransferIn:
			out.state.delete(transferKey(c.Of))
		}
	}
	clear(f.commands)
}
