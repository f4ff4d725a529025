module resty-mtls/t/headers/readers/xfcc

go 1.19
