// A pooled client of Go's net/http: pooled h1|h2 PORT CHANGE CRT KEY. It sends two requests, has CHANGE done, sends three
// more, and prints the statuses, with the number of the connection before each.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

func main() {
	protocol, port, change, crt, key := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	certificate, err := tls.LoadX509KeyPair(crt, key)
	if err != nil {
		panic(err)
	}
	connections := 0
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			connections++
			return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+port)
		},
		TLSClientConfig: &tls.Config{
			Certificates:       []tls.Certificate{certificate},
			InsecureSkipVerify: true,
			ClientSessionCache: tls.NewLRUClientSessionCache(8),
		},
		ForceAttemptHTTP2: protocol == "h2",
	}}
	for i := 0; i < 5; i++ {
		if i == 2 {
			response, err := http.Get(change)
			if err != nil || response.StatusCode != 200 {
				panic(fmt.Sprint("no change: ", err))
			}
		}
		response, err := client.Get("https://a.test/t")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if (response.ProtoMajor == 2) != (protocol == "h2") {
			panic(response.Proto)
		}
		fmt.Printf("%d:%d ", connections, response.StatusCode)
	}
	fmt.Println()
}
