// Plain Go net/http: the proxy and the CA come from the environment alone. The lines are those of jobs.mjs.
package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func exchange(number int, kind, url string, file string) error {
	method := "GET"
	var body io.Reader
	if kind == "post" {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		method, body = "POST", bytes.NewReader(data)
	}
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/octet-stream")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var all []byte
	chunk := make([]byte, 65536)
	for {
		n, err := response.Body.Read(chunk)
		if n > 0 && len(all) == 0 && kind == "stream" {
			fmt.Printf("first %d\n", number)
		}
		all = append(all, chunk[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	fmt.Printf("done %d %d %s\n", number, response.StatusCode, base64.StdEncoding.EncodeToString(all))
	return nil
}

func main() {
	file, rest := os.Args[1], os.Args[2:]
	for i := 0; i+1 < len(rest); i += 2 {
		if err := exchange(i/2, rest[i], rest[i+1], file); err != nil {
			fmt.Printf("fail %d %s\n", i/2, strings.ReplaceAll(err.Error(), "\n", " "))
		}
	}
}
