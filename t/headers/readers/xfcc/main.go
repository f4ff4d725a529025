// Parses the x-forwarded-client-cert headers in a file of `t/headers/dialects.py capture` in Go, and compares them with the
// certificates as crypto/x509 parses them. The parser is github.com/alecholmes/xfccparser, which Istio uses, with the build
// tag xfccparser, and else the model of it in model.go. Usage: xfcc FILE
package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"sort"
)

// The result of parse for an element. Istio uses CommonName, URI and DNS as names of the client.
type element struct {
	Subject *pkix.Name
	URI     string
	DNS     []string
}

type captured struct {
	Name, Host string
	Sent       []string
	Headers    map[string][]string
}

// The fields that a parsed subject and one of crypto/x509 have in common. A DN is written in reverse.
func fields(name pkix.Name) [][]string {
	lists := [][]string{
		name.Country, name.Organization, name.OrganizationalUnit, name.Locality, name.Province, name.StreetAddress,
		name.PostalCode, {name.SerialNumber}, {name.CommonName},
	}
	for i, list := range lists {
		sorted := append([]string{}, list...)
		sort.Strings(sorted)
		lists[i] = sorted
	}
	return lists
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	var all []captured
	if err := json.Unmarshal(text, &all); err != nil {
		panic(err)
	}
	read, subjects, uris, names := 0, 0, 0, 0
	for _, one := range all {
		for _, header := range one.Headers["x-forwarded-client-cert"] {
			der, err := base64.StdEncoding.DecodeString(one.Sent[0])
			if err != nil {
				panic(err)
			}
			elements, err := parse(header)
			if err != nil || len(elements) != 1 {
				fmt.Printf("%s is refused: %v, %d elements\n", one.Name, err, len(elements))
				continue
			}
			read++
			found := elements[0]
			certificate, err := x509.ParseCertificate(der)
			if err != nil {
				// Go cannot read every certificate that OpenSSL reads. The element must not have another one's name.
				if found.Subject != nil && found.Subject.CommonName == "admin" || found.URI == "spiffe://example.org/admin" {
					fmt.Printf("%s is read as another\n", one.Name)
				}
				continue
			}
			if found.Subject != nil {
				subjects++
				if !reflect.DeepEqual(fields(*found.Subject), fields(certificate.Subject)) {
					fmt.Printf("%s: subject %q, expected %q\n", one.Name, *found.Subject, certificate.Subject)
				}
			}
			if found.URI != "" {
				uris++
				is := false
				for _, uri := range certificate.URIs {
					is = is || uri.String() == found.URI
				}
				if !is {
					fmt.Printf("%s: URI %q, expected one of %v\n", one.Name, found.URI, certificate.URIs)
				}
			}
			if len(found.DNS) > 0 {
				names++
				if !reflect.DeepEqual(found.DNS, certificate.DNSNames) {
					fmt.Printf("%s: DNS %q, expected %q\n", one.Name, found.DNS, certificate.DNSNames)
				}
			}
		}
	}
	fmt.Printf("%d read, %d with a subject, %d with a URI, %d with DNS names\n", read, subjects, uris, names)
}
