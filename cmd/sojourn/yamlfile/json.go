package yamlfile

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

// json writes a node as JSON. Anchors and aliases have no place in a file whose
// every line should say what it means.
func (d *Document) json(buf *bytes.Buffer, n ast.Node) error {
	switch v := n.(type) {
	case nil, *ast.NullNode:
		buf.WriteString("null")
	case *ast.BoolNode:
		fmt.Fprint(buf, v.Value)
	case *ast.IntegerNode:
		fmt.Fprint(buf, v.Value)
	case *ast.FloatNode:
		b, err := json.Marshal(v.Value)
		if err != nil {
			return d.at(n, "this number has no place in JSON")
		}
		buf.Write(b)
	case *ast.StringNode:
		return d.text(buf, v.Value)
	case *ast.LiteralNode:
		return d.text(buf, v.Value.Value)
	case *ast.SequenceNode:
		buf.WriteByte('[')
		for i, x := range v.Values {
			if i > 0 {
				buf.WriteByte(',')
			}
			if err := d.json(buf, x); err != nil {
				return err
			}
		}
		buf.WriteByte(']')
	case *ast.MappingNode, *ast.MappingValueNode:
		buf.WriteByte('{')
		for i, p := range pairs(n) {
			if i > 0 {
				buf.WriteByte(',')
			}
			if err := d.text(buf, keyOf(p)); err != nil {
				return err
			}
			buf.WriteByte(':')
			if err := d.json(buf, p.Value); err != nil {
				return err
			}
		}
		buf.WriteByte('}')
	default:
		return d.at(n, fmt.Sprintf("%s has no place in this file", n.Type()))
	}
	return nil
}

func (d *Document) text(buf *bytes.Buffer, s string) error {
	b, err := json.Marshal(s)
	buf.Write(b)
	return err
}
