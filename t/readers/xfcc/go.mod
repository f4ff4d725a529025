module resty-mtls/t/readers/xfcc

go 1.19
