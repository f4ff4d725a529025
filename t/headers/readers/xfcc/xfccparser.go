//go:build xfccparser

package main

import "github.com/alecholmes/xfccparser"

func parse(header string) ([]element, error) {
	certificates, err := xfccparser.ParseXFCCHeader(header)
	elements := []element{}
	for _, certificate := range certificates {
		elements = append(elements, element{certificate.Subject, certificate.URI, certificate.DNS})
	}
	return elements, err
}
