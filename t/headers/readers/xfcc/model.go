//go:build !xfccparser

// A MODEL of github.com/alecholmes/xfccparser, for machines that cannot download it. It follows the grammar in Envoy's
// documentation, RFC 2253 and the observed behaviour of that module. A quoted value ends at a quote without a backslash
// before it and keeps its backslashes; a subject is then parsed by RFC 2253.
package main

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"
)

var types = map[string]asn1.ObjectIdentifier{
	"CN": {2, 5, 4, 3}, "SERIALNUMBER": {2, 5, 4, 5}, "C": {2, 5, 4, 6}, "L": {2, 5, 4, 7}, "ST": {2, 5, 4, 8},
	"STREET": {2, 5, 4, 9}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11}, "POSTALCODE": {2, 5, 4, 17},
	"EMAILADDRESS": {1, 2, 840, 113549, 1, 9, 1}, "DC": {0, 9, 2342, 19200300, 100, 1, 25},
}

func parse(header string) ([]element, error) {
	elements := []element{{}}
	for rest := header; ; {
		equals := strings.IndexByte(rest, '=')
		if equals < 1 {
			return nil, fmt.Errorf("no key in %q", rest)
		}
		key, after := strings.ToLower(rest[:equals]), rest[equals+1:]
		end, value := strings.IndexAny(after, ",;=\""), after
		if strings.HasPrefix(after, `"`) {
			end = 1
			for end < len(after) && (after[end] != '"' || after[end-1] == '\\') {
				end++
			}
			if end == len(after) {
				return nil, fmt.Errorf("no closing quote in %q", after)
			}
			value, after = after[1:end], after[end+1:]
		} else if end >= 0 {
			value, after = after[:end], after[end:]
		} else {
			after = ""
		}
		last := &elements[len(elements)-1]
		switch key {
		case "subject":
			name, err := subject(value)
			if err != nil {
				return nil, err
			}
			last.Subject = name
		case "uri":
			last.URI = value
		case "dns":
			last.DNS = append(last.DNS, value)
		case "by", "hash", "cert", "chain":
		default:
			return nil, fmt.Errorf("unknown key %q", key)
		}
		switch {
		case after == "":
			return elements, nil
		case after[0] == ',':
			elements = append(elements, element{})
		case after[0] != ';':
			return nil, fmt.Errorf("no separator before %q", after)
		}
		rest = after[1:]
	}
}

func subject(text string) (*pkix.Name, error) {
	var sequence pkix.RDNSequence
	name := &pkix.Name{}
	for rest := text; rest != ""; {
		equals := strings.IndexByte(rest, '=')
		if equals < 1 {
			return nil, fmt.Errorf("no type in %q", rest)
		}
		oid, ok := types[strings.ToUpper(rest[:equals])]
		if !ok {
			return nil, fmt.Errorf("unknown type in %q", rest)
		}
		rest = rest[equals+1:]
		value := []byte{}
		for rest != "" && rest[0] != ',' {
			switch {
			case strings.IndexByte(`=+<>#;"`, rest[0]) >= 0:
				return nil, fmt.Errorf("a special character in %q", rest)
			case rest[0] != '\\':
				value, rest = append(value, rest[0]), rest[1:]
			case len(rest) > 1 && strings.IndexByte(`,=+<>#;"\ `, rest[1]) >= 0:
				value, rest = append(value, rest[1]), rest[2:]
			default:
				if len(rest) < 3 {
					return nil, fmt.Errorf("half an escape in %q", rest)
				}
				octet, err := hex.DecodeString(rest[1:3])
				if err != nil {
					return nil, err
				}
				value, rest = append(value, octet[0]), rest[3:]
			}
		}
		if len(value) == 0 {
			return nil, fmt.Errorf("an empty value in %q", text)
		}
		sequence = append(sequence, []pkix.AttributeTypeAndValue{{Type: oid, Value: string(value)}})
		if strings.HasPrefix(rest, ",") {
			if rest = rest[1:]; rest == "" {
				return nil, fmt.Errorf("a comma at the end of %q", text)
			}
		}
	}
	name.FillFromRDNSequence(&sequence)
	return name, nil
}
